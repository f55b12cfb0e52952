"""How a program comes to be: what it is made from, how far it is, and whether another one is better.

from cascade.development.rating import rate
"""
