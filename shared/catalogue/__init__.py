"""The built-in catalogue: list prices and limits of Foundry's models, installed with the package."""

from shared.catalogue.loader import CatalogueError, CatalogueRow, load, parse

__all__ = ["CatalogueError", "CatalogueRow", "load", "parse"]
