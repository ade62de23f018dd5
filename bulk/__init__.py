"""Score the rows of tables with a bundle: `inferer predict FILE --model BUNDLE --text-column NAME --output FILE`."""
