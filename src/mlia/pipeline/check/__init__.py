"""`mlia check`: placement and cost, rules asked, remedies tried, fixes applied and proven."""
