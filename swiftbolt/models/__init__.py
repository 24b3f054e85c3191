"""The forecasters: naive, ARIMA-GARCH, XGBoost, LSTM, Transformer, behind one protocol (``base.Model``)."""
