"""What goes over the wire: the shapes of the peers and our own, read strictly and written plainly."""
