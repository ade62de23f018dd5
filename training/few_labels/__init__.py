"""Learning from few labels: texts of one label are drawn together first, then a linear head is fitted."""
