"""From a run to a folder that can be published: chosen, written, read again, told, and pushed when asked."""
