"""Pages about people: signing in and out, one's own profile, the workspace."""
