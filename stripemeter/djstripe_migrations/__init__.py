"""dj-stripe's tables in one generated migration (its own series takes minutes to apply).

Made by `manage.py makemigrations djstripe`; a test compares it with the installed models.
"""
