"""Plugins: finding them, checking them, and looking up the components they bring."""
