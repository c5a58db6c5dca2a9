"""What goes and when: retention by rule, deleted runs, files that nobody owns, and how much storage holds.

Rows go at once and leave a StorageRemoval in the same transaction; the dispatcher's house-keeping thread
(daily.py) removes the files, again and again until storage lets it.
"""
