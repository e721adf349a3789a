"""One run or several as a page, a model card and JSON, from what lies in their run directories."""
