"""The operator dashboard's frame: navigation, home, tenant switch. Panels belong to the apps."""
