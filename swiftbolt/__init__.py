"""SwiftBolt, the library: knows markets and models; knows neither Ray nor HTTP serving."""

__version__ = "0.1.0"
