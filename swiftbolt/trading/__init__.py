"""From forecasts to orders. Advice and paper trading; nothing here moves money by itself."""
