"""Which server of a backend is asked, and is it well?"""
