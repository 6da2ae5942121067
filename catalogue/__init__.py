"""The variants and schedules as tables and pictures, made from their registries."""
