"""What stages share: the run's folder, a stage's folder and context, maps of images."""
