"""The money: `domain` decides and folds, `enforcer` grants allotments, `bookkeeper` keeps the books."""
