"""The built-in catalogue: list prices and limits of Foundry's models, installed with the package."""

from shared.catalogue.loader import CatalogueError, load, parse
from shared.catalogue.rows import CatalogueRow, next_change, price_rows

__all__ = ["CatalogueError", "CatalogueRow", "load", "next_change", "parse", "price_rows"]
