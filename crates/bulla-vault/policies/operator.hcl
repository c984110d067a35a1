# Somebody who looks after the key `orders` of the engine at `transit`, and sees no data key.
# Replace both names.

path "transit/keys/orders" {
  capabilities = ["read"]
}
path "transit/keys/orders/rotate" {
  capabilities = ["update"]
}

# Versions and the rotation period, but neither `deletion_allowed` nor `exportable`.
path "transit/keys/orders/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
    "auto_rotate_period"     = []
  }
}

# Destroys disabled versions, for good. Leave it out, and grant it for an hour when it is due.
path "transit/keys/orders/trim" {
  capabilities = ["update"]
}

# Takes the whole key out of use and back. OpenBao only.
path "transit/keys/orders/soft-delete" {
  capabilities = ["delete"]
}
path "transit/keys/orders/soft-delete-restore" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
