"""What can operators see?"""
