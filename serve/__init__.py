"""Ray Serve deployments that answer over HTTP from the promoted release. Knows the library, never the cluster."""
