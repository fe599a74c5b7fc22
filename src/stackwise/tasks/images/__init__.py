"""Pictures whose class is predicted."""
