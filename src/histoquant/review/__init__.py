"""Review: edits, the journal that keeps them, and the numbers that follow from them. No Qt."""
