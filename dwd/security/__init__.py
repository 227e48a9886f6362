"""Who a peer is and how secrets rest: cluster authority, identities, join tokens, sealing, access keys."""
