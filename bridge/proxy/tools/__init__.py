"""What can operators ask or change?"""
