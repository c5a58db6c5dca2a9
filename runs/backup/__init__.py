"""Backup and restore of the database and of storage, as one.

The database is read in one REPEATABLE READ snapshot, with COPY, a file a table; the snapshot then decides which
files of storage must be there. A backup needs no program but Python, and goes back into any Postgres.

    TARGET/files/ab/ab12…            a file of storage, named by its SHA-256; backups share them
    TARGET/backups/<time>/           a backup: database/, secret_key, and manifest.json, which is written last
"""
