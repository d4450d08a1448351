"""What MLflow is told of runs, and how."""
