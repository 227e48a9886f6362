"""One module a noun; a function a verb."""
