"""The peer: the roadmap's features of one symbol, by pandas and TA-Lib, as its second week writes them.

Changed only where the sample does not run on today's libraries: TA-Lib's abstract functions return a list of Series for
a DataFrame of several inputs, OBV and AD take their inputs by name, and nothing is printed. What is computed, and by
which calls, is the roadmap's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from talib import abstract


class FeatureEngineer:
    """The roadmap's class; ``frame`` holds open, high, low, close and volume of one symbol, ascending."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.df = frame.copy()

    def momentum(self) -> None:
        """Rates of change, RSI, MACD."""
        df: Any = self.df
        for sessions in (5, 20, 60):
            df[f"momentum_{sessions}d"] = (df["close"] - df["close"].shift(sessions)) / df["close"].shift(sessions)
        df["rsi_14"] = abstract.RSI(df, timeperiod=14)
        df["rsi_20"] = abstract.RSI(df, timeperiod=20)
        macd = abstract.MACD(df, fastperiod=12, slowperiod=26, signalperiod=9)
        df["macd"], df["macd_signal"], df["macd_histogram"] = macd["macd"], macd["macdsignal"], macd["macdhist"]

    def volatility(self) -> None:
        """Deviations of the log return, Bollinger's bands, ATR."""
        df: Any = self.df
        returns = np.log(df["close"] / df["close"].shift(1))
        for window in (10, 20, 60):
            df[f"volatility_{window}d"] = returns.rolling(window).std() * np.sqrt(252)
        bands = abstract.BBANDS(df, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
        upper, middle, lower = bands["upperband"], bands["middleband"], bands["lowerband"]
        df["bb_upper"], df["bb_middle"], df["bb_lower"] = upper, middle, lower
        df["bb_width"] = (upper - lower) / middle
        df["bb_position"] = (df["close"] - lower) / (upper - lower)
        df["atr_14"] = abstract.ATR(df, timeperiod=14)
        df["atr_ratio"] = df["atr_14"] / df["close"]

    def trend(self) -> None:
        """Exponential means, distances from them, their slopes, ADX, CCI."""
        df: Any = self.df
        for span in (5, 20, 50, 200):
            df[f"ema_{span}"] = abstract.EMA(df["close"], timeperiod=span)
        for span in (20, 50):
            df[f"distance_from_ema_{span}"] = (df["close"] - df[f"ema_{span}"]) / df[f"ema_{span}"]
        for span in (5, 20):
            before = df[f"ema_{span}"].shift(span)
            df[f"ema_angle_{span}"] = (df[f"ema_{span}"] - before) / before
        df["adx"] = abstract.ADX(df, timeperiod=14)
        df["cci_20"] = abstract.CCI(df, timeperiod=20)

    def volume(self) -> None:
        """Volume against its mean, OBV, MFI, accumulation and distribution."""
        df: Any = self.df
        df["volume_ratio"] = df["volume"] / df["volume"].rolling(20).mean()
        df["obv"] = abstract.OBV(df)
        df["obv_ema"] = abstract.EMA(df["obv"], timeperiod=20)
        df["mfi_14"] = abstract.MFI(df, timeperiod=14)
        df["ad"] = abstract.AD(df)
        df["ad_ema"] = abstract.EMA(df["ad"], timeperiod=20)

    def mean_reversion(self) -> None:
        """Z-score, distances from plain means, stochastic."""
        df: Any = self.df
        mean_50 = abstract.SMA(df["close"], timeperiod=50)
        df["zscore_50d"] = (df["close"] - mean_50) / df["close"].rolling(50).std()
        df["pct_above_sma_50"] = (df["close"] - mean_50) / mean_50
        mean_200 = abstract.SMA(df["close"], timeperiod=200)
        df["pct_above_sma_200"] = (df["close"] - mean_200) / mean_200
        stochastic = abstract.STOCH(df, fastk_period=9, slowk_period=3, slowd_period=3)
        df["kdj_k"], df["kdj_d"] = stochastic["slowk"], stochastic["slowd"]

    def all_features(self) -> pd.DataFrame:
        """Every column of every family, without the rows in which one is missing."""
        self.momentum()
        self.volatility()
        self.trend()
        self.volume()
        self.mean_reversion()
        self.df = self.df.dropna()
        return self.df
