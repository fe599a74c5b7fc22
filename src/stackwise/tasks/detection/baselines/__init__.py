"""What every comparison of detectors includes: no fusion, FPN, PAN and a constant guess."""
