"""What may pass, and as which bytes?"""
