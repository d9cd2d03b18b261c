"""What was asked, of whom, by whom?"""
