"""What do we read and write in the site's database?"""
