# A service that seals and opens under the key `orders` of the engine at `transit`.
# Replace both names. It can neither change the key nor use another one.

# What kind of key it is, its versions and their states.
path "transit/keys/orders" {
  capabilities = ["read"]
}

# `update` without `create`: with both, `encrypt` would make a key that does not exist.
path "transit/datakey/plaintext/orders" {
  capabilities = ["update"]
}
# Only for keys without `derived`, for `Recipients` and for `also_wrap_with`.
path "transit/encrypt/orders" {
  capabilities = ["update"]
}
path "transit/decrypt/orders" {
  capabilities = ["update"]
}
path "transit/rewrap/orders" {
  capabilities = ["update"]
}

# Its own token: the policy `default` has these too, but not every token has that policy.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
