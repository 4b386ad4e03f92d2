"""The theory of the softest modes of any network (Supp. C)."""
