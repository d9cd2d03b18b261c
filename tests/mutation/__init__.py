"""Would the unit tests of a pure module notice if one of its rules were changed?"""
