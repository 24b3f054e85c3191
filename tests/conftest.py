"""Fixtures of every tier. They start nothing until a test asks for them."""

from __future__ import annotations

from support.ray_cluster import ray_cluster

__all__ = ["ray_cluster"]
