"""What every implementation of a border must do, tested once over all of them."""
