"""Public clips: a manifest (source, licence, sha256) and the command that fetches them. No footage is stored here."""
