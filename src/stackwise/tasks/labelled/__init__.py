"""What tasks on samples with a target share: parts, folds, choices, scores and answers."""
