"""Where market data comes from. Every provider hands out the same ``MarketData``; none knows the store."""
