"""Ray Tune, Ray Train and jobs: runs the library's walk-forward on a cluster. Never imports the serving half."""
