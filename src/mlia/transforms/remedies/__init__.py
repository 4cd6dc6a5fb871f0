"""What rules try: small changes of a graph, most of them lossless."""
