"""Telling people how their runs go, by e-mail, webhook and in the browser (docs/notifications.md).

outbox.py     who is told; a row a channel, in the transaction of what happened
messages.py   what is said, and how it looks in a mail and in a webhook's body
stalls.py     runs that get nowhere, and those that go on again
sending.py    the dispatcher's threads: claim, send, try again, give up, switch off
mail.py  webhooks.py    the two ways out
inbox.py      what stands behind the bell
channels.py   setting up a way to be told
"""
