"""The weights that ship with slidefusion: one ``.safetensors`` and one ``.json`` card each."""
