# A service that only opens what others have sealed under the key `orders` of the engine at
# `transit`. Replace both names.

path "transit/keys/orders" {
  capabilities = ["read"]
}
path "transit/decrypt/orders" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
