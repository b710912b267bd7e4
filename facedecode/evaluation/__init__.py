"""What each `facedecode evaluate` command does: one library call that ends in a `report.Report`."""
