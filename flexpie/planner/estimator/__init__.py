"""Estimators learned from traces, and the cost model that asks them. The only home of lightgbm."""

from flexpie.planner.estimator.cost_model import Estimators, LearnedCostModel, default_cost_model, load_estimators

__all__ = ["Estimators", "LearnedCostModel", "default_cost_model", "load_estimators"]
