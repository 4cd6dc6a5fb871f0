"""The HTML page: what is on it, its pictures, the drawing of the graph, its templates."""
