"""What studies work with: corpora, training, the zoo of trained models."""
