"""What becomes of a message?"""
