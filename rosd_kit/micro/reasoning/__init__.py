"""Problems whose solutions leave choices: order, fast and slow ways, wording, checks and corrections; with an exact oracle."""
