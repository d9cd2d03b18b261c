"""What does routes.yaml say?"""
