"""What the commands do, as functions that print nothing; `import merger` leads here, late."""
